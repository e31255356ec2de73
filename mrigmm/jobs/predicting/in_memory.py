"""The result of one study in memory: maps as the caller holds the images, numbers, picture, and its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from mrigmm.data.files import sole_writer
from mrigmm.data.geometry import slices_last_grid, with_slices_last
from mrigmm.data.side_file import SavedMixture
from mrigmm.errors import printable
from mrigmm.export.nifti import given_back
from mrigmm.jobs.common import DISCLAIMER, Outcome
from mrigmm.jobs.predicting.finished import require_unedited
from mrigmm.jobs.predicting.result_files import require_free
from mrigmm.jobs.predicting.segmented_study import SolvedStudy, write_solved, write_tables
from mrigmm.jobs.predicting.segmenter import Segmenter
from mrigmm.jobs.quantify import Quantified
from mrigmm.jobs.quantifying.plausible import shown
from mrigmm.jobs.quantifying.tables import columns_of
from mrigmm.jobs.reading.failures import clear_failure
from mrigmm.jobs.shown import ShownTable
from mrigmm.labels import class_colours
from mrigmm.methods.anatomy import region_ids
from mrigmm.quantification.view import short_axis_view

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mrigmm.reporting.pictures import Picture


@dataclass(frozen=True, repr=False, eq=False)
class SegmentedStudy:
    """Result of `mrigmm.segment` for a study. Prints its numbers, in a notebook with a picture.

    Maps are what the reference sequence (LGE, else the first) was given as: image of nibabel or SimpleITK
    on its grid, array or tensor of its shape. Of a path they are images of nibabel.

    Attributes:
        solved: the study, its segmentation and what stands in its side file.
        segmenter: what segmented it.
        like: the reference sequence as it was given.
    """

    solved: SolvedStudy
    segmenter: Segmenter
    like: object

    @property
    def id(self) -> str:
        """Name of the study, in messages and of saved files."""
        return self.solved.study.id

    @property
    def classes(self) -> Mapping[str, int]:
        """Class name -> id in `labels`."""
        return self.solved.side.classes

    @cached_property
    def labels(self) -> Any:
        """Class ids (uint8), 0 outside the ventricle."""
        return given_back(self.solved.labels, self.solved.tensors.output, self.like)

    @cached_property
    def probabilities(self) -> Mapping[str, Any]:
        """Class name -> its probability (float32); they sum to 1 inside the ventricle, 0 outside."""
        maps = zip(self.classes, self.solved.result.resp.float(), strict=True)
        return {name: self._back(probability) for name, probability in maps}

    @cached_property
    def region(self) -> Any:
        """Where the mixture was fitted, given or found: 1 = cavity and 2 = wall, or 1 = left ventricle."""
        return self._back(region_ids(self.solved.tensors))

    @cached_property
    def mvo(self) -> Any | None:
        """1 where microvascular obstruction is, which `labels` call scar; None: it was not looked for."""
        found = self.solved.result.mvo
        return None if found is None else self._back(found.to(torch.uint8))

    @property
    def mixture(self) -> SavedMixture:
        """Weights (S, K), means (S, K, C) and covariances (S, K, C, C) of the classes; S = 1, or slices."""
        mixture = self.solved.side.mixture
        assert mixture is not None
        return mixture

    @cached_property
    def quantities(self) -> Mapping[str, float | None]:
        """Clinical numbers, the columns of `quantities.csv` (docs/quantities.md); None: not measured."""
        quantities = self.solved.side.quantities
        assert quantities is not None
        return columns_of(shown(quantities, self.solved.side.method))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Messages that a careful user would act on."""
        return self.solved.side.warnings

    @property
    def notes(self) -> tuple[str, ...]:
        """Messages that are good to know."""
        return self.solved.side.notes

    @property
    def details(self) -> Mapping[str, Any]:
        """Figures of the method; of `pretrained`: "infarct" (probability and threshold), "expected_dice"."""
        return self.solved.side.details

    def plot(self) -> Figure:
        """Return slices with the outlines of the classes, the label map, and numbers above them.

        A notebook shows it; a script saves it: `found.plot().savefig("study.png")`.
        """
        from mrigmm.reporting.pictures import stacked

        table = self._numbers()
        numbers = map(" ".join, zip(table.columns[1:], table.rows[0][1:], strict=True))
        return stacked(
            self._pictures(),
            title="\n".join([", ".join(numbers), DISCLAIMER]),
            legend=class_colours([*self.classes]),
        )

    def save(
        self,
        out: Path | str,
        *,
        probabilities: bool = False,
        uncertainty: bool = False,
        overwrite: bool = False,
    ) -> Outcome:
        """Write the files that `mrigmm predict` writes, beside the results of other studies.

        A region that was given in memory is written like one that was found.

        Args:
            out: folder for `<id>_labels.nii.gz` and the files beside it.
            probabilities: write `<id>_probabilities.nii.gz` and further maps, too.
            uncertainty: write `<id>_entropy.nii.gz` and `<id>_log_likelihood.nii.gz`, too.
            overwrite: replace results of a study of this name.

        Raises:
            InputError: they are there already, or cannot be written.
        """
        folder, study = Path(out), self.solved.study
        require_free(folder, [study], None, overwrite=overwrite, beside=True)
        with sole_writer(folder):
            require_free(folder, [study], None, overwrite=overwrite, beside=True)
            if overwrite:
                require_unedited([study], folder)
            written = {"probabilities": probabilities, "uncertainty": uncertainty}
            problems = write_solved(self.solved, folder, self.segmenter, **written)
            clear_failure(folder, study.id)
            problems += write_tables(folder, self.segmenter.classes)
        return Outcome(folder, (study.id,), tuple(problems))

    def __repr__(self) -> str:
        head = f"{type(self).__name__}: {printable(self.id)}, {self.segmenter.method.name}"
        warned = [f"warning: {printable(text)}" for text in self.warnings]
        return "\n".join([head, self._numbers().as_text(), *warned])

    def _repr_html_(self) -> str:
        legend = "".join(
            f'<span style="color:rgb{colour}">&#9632;</span> {escape(name)} '
            for name, colour in class_colours([*self.classes]).items()
        )
        figures = "".join(
            f'<figure><img src="{p.uri}" alt="{escape(p.alt)}" width="{p.width}" height="{p.height}">'
            f"<figcaption>{escape(p.title)}</figcaption></figure>"
            for p in self._pictures()
        )
        told = "".join(f"<li>{escape(text)}</li>" for text in self.warnings)
        return (
            f"{self._numbers().as_html()}<p>{legend}</p>{figures}<ul>{told}</ul><p>{escape(DISCLAIMER)}</p>"
        )

    def _pictures(self) -> list[Picture]:
        """Rows of slices: each sequence with the outlines of the classes, and the label map."""
        from mrigmm.reporting.slices import flat_pictures, study_slices

        tensors, result = self.solved.tensors, self.solved.result
        grid = tensors.output.grid
        channels = zip(tensors.sequences, tensors.image, tensors.present.tolist(), strict=True)
        view = short_axis_view(slices_last_grid(grid).affine)
        slices = study_slices(
            {
                name: view.turn(self._slices_last(self._on_file(image)))
                for name, image, there in channels
                if there
            },
            view.turn(self._slices_last(self.solved.labels)),
            self.classes,
            spacing_mm=view.spacing_mm,
            numbers=view.numbers(grid.shape[grid.slice_axis]),
            mvo=None if result.mvo is None else view.turn(self._slices_last(self._on_file(result.mvo))),
        )
        return flat_pictures(slices, [*self.classes])

    def _numbers(self) -> ShownTable:
        (table,) = Quantified(Path(self.id), (self.id,), studies={self.id: dict(self.quantities)}).tables()
        return table

    def _on_file(self, values: Tensor) -> NDArray[Any]:
        """A map (X, Y, Z) of the study's array in the order of the reference sequence."""
        return self.solved.tensors.to_input_grid(values[None])[0]

    def _back(self, values: Tensor) -> Any:
        return given_back(self._on_file(values), self.solved.tensors.output, self.like)

    def _slices_last(self, values: NDArray[Any]) -> NDArray[Any]:
        return with_slices_last(values, self.solved.tensors.output.grid)
