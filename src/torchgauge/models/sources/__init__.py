"""One module per kind of model spec, each with ``build(spec) -> ModelBuild``."""
