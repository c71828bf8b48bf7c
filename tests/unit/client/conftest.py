"""A scripted broker, and an AsyncClient that is connected to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hermes.client.aio import AsyncClient
from tests.unit.client.fake_broker import FakeBroker, fake_broker


@pytest.fixture
async def broker() -> AsyncIterator[FakeBroker]:
    async with fake_broker() as broker:
        yield broker


@pytest.fixture
async def aio_client(broker: FakeBroker) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(broker.address, connect_timeout=5, close_timeout=0.2) as client:
        yield client
