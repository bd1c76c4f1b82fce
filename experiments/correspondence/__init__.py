"""What runs of dense correspondence are made of; `workflows/correspondence.py` puts it together."""
