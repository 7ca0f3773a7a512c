"""One repair of kombu's Redis transport: an acknowledgement that Redis did not take frees its place all the same.

A worker asks for the next ticket only while it has a free place, and kombu 5.7 frees a place only when Redis has taken the
acknowledgement. One refusal for each place (Redis is loading its data after a restart, or is full), and the worker lives on
without ever asking again. What Redis still has of the ticket comes back after the visibility timeout; then it is a ticket
too many, which finds no work.
"""

from kombu.transport import redis


class QoS(redis.QoS):
    """Frees the place of a ticket in every case."""

    def ack(self, delivery_tag: str) -> None:
        try:
            super().ack(delivery_tag)
        finally:
            self._quick_ack(delivery_tag)


def repair() -> None:
    """Have every channel of this process use it. Not by a transport of our own: its URLs would lose their TLS."""
    redis.Channel.QoS = QoS
