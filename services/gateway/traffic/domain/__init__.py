"""What traffic means: which version answers, and what a version takes."""

SERVICE = "inference.GRPCInferenceService"  # the Open Inference Protocol over gRPC
INFER = "models.infer"  # the permission for its predictions
