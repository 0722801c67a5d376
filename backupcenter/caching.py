"""What the cache holds, in Redis: JSON. Django's own serializer unpickles, and agents can write to Redis too."""

import json
from typing import Any


class JSONSerializer:
    """For the option `serializer` of Django's Redis cache. Numbers stay such that Redis can count with them."""

    def dumps(self, value: Any) -> bytes:
        return json.dumps(value).encode()

    def loads(self, data: bytes) -> Any:
        return json.loads(data)
