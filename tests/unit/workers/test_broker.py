"""The repair of the broker's transport: a worker goes on asking for tickets after Redis has refused an acknowledgement."""

from types import SimpleNamespace
from typing import Any

import pytest
from kombu.transport import redis, virtual
from redis.exceptions import BusyLoadingError

import workers.celery_app  # noqa: F401  it repairs
from workers.broker import QoS


class WhileLoading(QoS):
    """Redis refuses everything."""

    def _remove_from_indices(self, delivery_tag: str, pipe: Any = None) -> Any:
        raise BusyLoadingError("Redis is loading the dataset in memory")


def test_a_refused_acknowledgement_frees_the_place_of_its_ticket() -> None:
    # given a worker with one place, which is taken
    qos = WhileLoading(SimpleNamespace(do_restore=False), prefetch_count=1)
    virtual.QoS.append(qos, SimpleNamespace(), "tag")
    assert not qos.can_consume()
    # when Redis refuses the acknowledgement
    with pytest.raises(BusyLoadingError):
        qos.ack("tag")
    # then the worker asks for the next ticket
    assert qos.can_consume()


def test_every_channel_of_a_process_is_repaired() -> None:
    assert redis.Channel.QoS is QoS
