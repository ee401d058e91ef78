"""What runs in the environments of those we are measured against: their usual way to serve one ONNX model."""
