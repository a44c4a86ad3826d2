"""The language of what a person reads: English in the source, another one by its catalogue.

>>> from torchgauge import language
>>> language.translated("not called")
'not called'
>>> with language.spoken("zh"):
...     print(language.translated("3 GPUs"))
3 个 GPU

JSON and CSV are for programs and stay English, and so do names, options and units.
"""

from torchgauge.language.choice import ENGLISH, LANGUAGES, current, preferred, spoken, use
from torchgauge.language.translate import joined, translated

__all__ = ["ENGLISH", "LANGUAGES", "current", "joined", "preferred", "spoken", "translated", "use"]
