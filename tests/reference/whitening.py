"""PCA whitening from the definition, float64, all data at once (TCA specification, section 3)."""

import numpy as np


def fit(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Mean [D], components [D, k], eigenvalues [k] by the singular values of the centred data."""
  x = x.astype(np.float64)
  mean = x.mean(axis=0)
  _, s, v = np.linalg.svd(x - mean, full_matrices=False)
  return mean, v[:k].T, np.maximum(s[:k] ** 2 / (len(x) - 1), 1e-9)


def apply(mean: np.ndarray, u: np.ndarray, values: np.ndarray, x: np.ndarray) -> np.ndarray:
  y = (x.astype(np.float64) - mean) @ u / np.sqrt(values)
  return y / np.maximum(np.linalg.norm(y, axis=1, keepdims=True), 1e-12)


def gram(x: np.ndarray, k: int, new: np.ndarray) -> np.ndarray:
  """Cosines of whitened vectors: free of the signs of the components."""
  y = apply(*fit(x, k), new)
  return y @ y.T
