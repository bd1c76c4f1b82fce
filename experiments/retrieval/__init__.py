"""What runs of video retrieval are made of; `workflows/retrieval.py` puts it together."""
