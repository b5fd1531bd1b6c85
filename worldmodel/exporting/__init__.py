"""Trained models without Python: a page that dreams by itself, and ONNX files."""
