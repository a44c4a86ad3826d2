"""Facts as JSON and msgpack files, by msgspec; knows no type of them."""

from torchgauge.facts.codec.wire import Shape, from_dict, schema, to_dict, to_json

__all__ = ["Shape", "from_dict", "schema", "to_dict", "to_json"]
