"""What inference means: tensors that fit a signature, requests that run together, versions that are to be loaded."""
