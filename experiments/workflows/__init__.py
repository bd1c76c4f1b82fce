"""What a run of a kind consists of; a config names its kind, `workflow`, and `modes` runs it.

A workflow is a module with

- `Model(config, mesh)`, the model without any data: `method`, `tx`, `mesh`, `config`,
  `trained_name` (its row in the table); `check()` before any file is read; `init_state()`,
  `newest(workdir)` -> (step, state); `live(state)` and `exported(path)` -> what is evaluated, a
  *row*; `exported_digest(path)`; `export(state, folder)` -> paths.
- `Task(model, workdir)`, with its training data and the evaluation on the held-out part: `save
  (workdir)`, `batches(first_step)`, `dropped`, `baselines(initial)` -> {name: row},
  `report(row, scratch=, about=, folder=)` -> something with `numbers`, a dict; what is predicted
  may be written to `folder`.
- `Evaluation(model, workdir)`, on another data set: `report` likewise, `missing`, ids, and `drawn`,
  whether `figures` can draw it.
- `table(task, reports)` -> text; `figures(task, reports, rows)` -> ({file name: figure}, sentences
  on what doesn't apply); `files(task, reports, folder)` -> paths written; `check_equal(live,
  exported)` -> half a sentence, or RuntimeError; `numbers(report)` -> a row of results.json, which
  has "per_item": {column: {item: value}}, what ablations are tested on.
- `extract(model, workdir, source, output)`, for --mode=extract, whose output is `EXTRACTED`; and
  `own(model, name, row, source, first, output, how)`, for --mode=eval of a user's own file.
"""
