"""WHERE models live: the boundary to TensorFlow Serving.

`contract.py` is all that both sides share. `client.py` never imports TensorFlow; `saved_model.py` and the TensorFlow
engine of `embedded/` are the only modules here that do.
"""
