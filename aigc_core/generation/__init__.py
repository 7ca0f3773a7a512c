"""From seeds to stored pictures. Reading order: latents → predictor → encode → shard → run_chunk → papers → finalise."""
