"""What runs of representation learning are made of; `workflows/recognition.py` puts it together."""
