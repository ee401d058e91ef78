"""What the child does: reads rows, fits a model, makes one ONNX file of features and model, evaluates it."""
