"""Where people train: callbacks, a plain loop, configuration files, trackers, model cards, editors.

Each module needs the library that it is named after, which is an extra of this package; where that
is missing, the import says which command installs it. Nothing else here imports any of them.

====================== ===================================================================
``loop``               a plain training loop: predicts, then measures the first steps
``lightning``          callback for ``lightning``, in place of ``ModelSummary``
``pytorch_lightning``  the same for the package ``pytorch_lightning``
``transformers``       ``TrainerCallback``
``accelerate``         a look at what ``Accelerator.prepare`` returned, before its first forward
``keras``              callback for Keras 3 on torch
``config``             a ``Scenario`` from a dict, or from Hydra's and OmegaConf's configuration
``trackers``           ``log(report, to=…)``: TensorBoard, MLflow, Weights & Biases, Aim
``model_card``         a section for a model card of the Hugging Face Hub
``mcp``                a server for assistants in editors: ``torchgauge mcp``
====================== ===================================================================
"""
