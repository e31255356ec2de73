"""Training slices of simulated hearts, drawn in memory from wide ranges (docs/simulated_training.md).

The frozen presets of `mrigmm.phantom` judge; this generator trains. It shares their anatomy, their
pathology and the calibrated tables, and draws everything that a scanner or a patient may change from
ranges around the population figures of two centres (`config_pretrain.GeneratorRanges`).
"""

from mrigmm.phantom.generator.backgrounds import Backgrounds, read_backgrounds
from mrigmm.phantom.generator.codes import Code, allowed_table
from mrigmm.phantom.generator.examples import Examples, draw_examples
from mrigmm.phantom.generator.whole import WholeSlices, draw_whole_slices

__all__ = [
    "Backgrounds",
    "Code",
    "Examples",
    "WholeSlices",
    "allowed_table",
    "draw_examples",
    "draw_whole_slices",
    "read_backgrounds",
]
