"""A model server for one machine, wire-compatible with TensorFlow Serving: `python -m serving.embedded --port=8500 …`.

Reading order: flags → discovery → engine (onnx_engine, tensorflow_engine) → catalogue → service. Predict, GetModelMetadata
and GetModelStatus as tensorflow_model_server answers them, texts included. Where it does better on purpose: one missing base
path does not stop the polling of the other models, and SIGTERM lets requests in flight end.
"""
