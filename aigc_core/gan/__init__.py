"""From pictures to a trained generator: the only place of the core that may import TensorFlow.

Reading order: presets (no TensorFlow) → networks → losses → checkpoint → loop. Import nothing here: a producer reads
`presets` and must not pay for TensorFlow.
"""
