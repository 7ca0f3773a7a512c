"""From a folder of pictures to a data set: read → clean → dedupe → normalise → fingerprint → shards and card."""
