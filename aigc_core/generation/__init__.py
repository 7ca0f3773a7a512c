"""From seeds to stored pictures. Reading order: latents → predictor → encode → run_chunk → contact_sheet."""
