import pytest

from mrigmm.data.dicom.recognise import IGNORE, choose, recognise
from mrigmm.data.dicom.series import split_series

from .frames import frame


def series(description="", *, slices=1, start_mm=0.0, uid="1.1", phases=1, **changes):
    """The only part of a made-up axial series."""
    frames = [
        frame(
            description,
            series_uid=uid,
            number=uid.split(".")[-1],
            position_mm=(0.0, 0.0, start_mm + 10.0 * z),
            trigger_time_ms=30.0 * t if phases > 1 else None,
            instance=phases * z + t,
            **changes,
        )
        for z in range(slices)
        for t in range(phases)
    ]
    (part,) = split_series(frames)
    return part


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("LGE_SAX", "LGE"),
        ("de_overview_psir_p2", "LGE"),
        ("DE_high-res_PSIR_sax_MAG", "LGE"),
        ("SA delayed enhancement", "LGE"),
        ("Late Gad SA", "LGE"),
        ("PSIR_TFE_BH viability", "LGE"),
        ("2D MDE SA", "LGE"),
        ("T2_STIR_SAX", "T2"),
        ("t2w_tse_dark-blood", "T2"),
        ("T2prep trufi sax", "T2"),
        ("oedema SA", "T2"),
        ("CINE_segmented_SAX_b1", "bSSFP"),
        ("sa cine 25 phases", "bSSFP"),
        ("FIESTA SA", "bSSFP"),
        ("sBTFE_BH SA", IGNORE),  # a word that is not known is not guessed at
        ("B-TFE_BH SA", "bSSFP"),
        ("tf2d12_retro trufi", "bSSFP"),
        ("localizer", IGNORE),
        ("TI_scout_trufi", IGNORE),
        ("T1_map_MOLLI", IGNORE),
        ("t2_map_sax", IGNORE),
        ("T2* heart", IGNORE),
        ("T2star", IGNORE),
        ("rest perfusion", IGNORE),
        ("flow_venc150_cine", IGNORE),
        ("cine_4ch", IGNORE),
        ("LGE_2-CH_PSIR", IGNORE),
        ("LVOT cine", IGNORE),
        ("LGE 3 chamber", IGNORE),
        ("abdomen", IGNORE),
        *((name, "LGE") for name in ("SA_DelEnh", "sDelEnh_SA", "DELAY_ENH_SAX", "sPSIR_SA", "wPSIR_SAX")),
        *((name, "LGE") for name in ("DEsax", "SpaetEnhancement", "SpätEnhancement", "Spaet-KM", "LE_SAX")),
        *((name, "LGE") for name in ("LGE_plan_SAX", "LGE_SAX_with_scout", "Dynamic_LGE", "IR_TFE_SAX")),
        *((name, "T2") for name in ("ACUT2E_SAX", "IR_FSE_SAX", "sSPAIR_BB", "oedem_KA", "Ödem KA", "ÖDEM")),
        *(
            (name, "bSSFP")
            for name in ("kine_sax", "SSFP_SHORT_AXIS", "CINE_S-AX", "CINE_AX_SHORT", "bffe sa ax")
        ),
        *((name, "LGE") for name in ("PSIR_SA_PC", "LGE pc sax")),  # post contrast
        *((name, IGNORE) for name in ("PC_aorta", "fl2d_pc_tra", "cine_pc_venc")),
        *((name, IGNORE) for name in ("T2 GraSE SAX map", "SAX_T2_GRASE_mapping", "T1w_SPAIR_BB")),
        *((name, IGNORE) for name in ("cine_4KB", "LGE 4 Kammerblick", "LGE_3chamb", "cine_aorta_valve")),
        *((name, IGNORE) for name in ("cine_RV_tra", "LGE_tra", "LGE ax", "fl2d_cine_PC_aorta")),
        *(
            (name, IGNORE)
            for name in ("cine_tf2d12_SAX_stress", "AAHScout", "ti scout LGE SAX", "Rest_dyn_SAX")
        ),
    ],
)
def test_names(description, expected):
    assert recognise(series(description)).sequence == expected


@pytest.mark.parametrize(
    "name", ["KA", "kA", "SHAX", "ShortAx", "SAX1", "DEsax", "kurze Achse", "sa_stack", "S-AX"]
)
def test_names_of_the_short_axis(name):
    taken, (note,) = chosen(
        series("LGE", slices=9, uid="1.1"), series(f"LGE {name}", slices=5, uid="1.2", acquired="1")
    )
    assert taken == {"1.2"}
    assert "(short axis in its name)" in note


@pytest.mark.parametrize("value", ["T1 MAP", "T2 MAP", "T2_STAR MAP", "ECV MAP"])
def test_a_map_by_its_image_type(value):
    verdict = recognise(series("de sax", image_type=("M", value)))
    assert (verdict.sequence, verdict.why) == (IGNORE, f"map of T1, T2 or T2*: the image type has '{value}'")


def test_protocol_and_sequence_name_count_too():
    assert recognise(series("sax", protocol="LGE")).sequence == "LGE"
    assert recognise(series("sax", sequence_name="*tfi2d1_12")).sequence == "bSSFP"


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"physics": ("GR", "IR"), "inversion_time_ms": 280.0}, "LGE"),
        ({"physics": ("GR", "IR"), "inversion_time_ms": 900.0}, IGNORE),
        ({"physics": ("GR",), "inversion_time_ms": 280.0}, IGNORE),
        ({"physics": ("SE", "IR"), "inversion_time_ms": 170.0, "echo_time_ms": 65.0}, "T2"),
        ({"physics": ("SE",), "echo_time_ms": 12.0}, IGNORE),
        ({"physics": ("GR", "SS"), "phases": 25}, "bSSFP"),
        ({"physics": ("GR", "SS")}, IGNORE),
        ({"physics": ("GR", "SP"), "phases": 25}, IGNORE),
    ],
)
def test_tags_where_the_name_says_nothing(tags, expected):
    verdict = recognise(series("sax", **tags))
    assert verdict.sequence == expected
    assert not verdict.ambiguous


def test_a_phase_image_is_ignored():
    verdict = recognise(series("LGE", image_type=("P",)))
    assert (verdict.sequence, verdict.why) == (IGNORE, "phase image")


def test_two_contrasts_in_one_name_are_ambiguous():
    verdicts, notes = choose([series("LGE cine sax", uid="1.7")])
    assert verdicts["1.7"].sequence == IGNORE
    why = "ambiguous: LGE (the name has 'lge') or bSSFP (the name has 'cine')"
    assert notes == [f"series 7 'LGE cine sax' is ignored: {why}"]


def chosen(*parts):
    verdicts, notes = choose(parts)
    return {key for key, verdict in verdicts.items() if verdict.sequence == "LGE"}, notes


def test_short_axis_goes_before_more_slices():
    taken, notes = chosen(series("LGE", slices=20, uid="1.1"), series("LGE sax", slices=8, uid="1.2"))
    assert taken == {"1.2"}
    assert notes == ["LGE: 2 series fit, 2 'LGE sax' is taken (short axis in its name); change it in the map"]


def test_then_most_slices():
    taken, (note,) = chosen(
        series("LGE sax", slices=8, uid="1.1"),
        series("LGE sax", slices=3, uid="1.2", acquired="20240101120000"),
    )
    assert taken == {"1.1"}
    assert "(most slices)" in note


def test_then_magnitude_before_psir_then_the_latest():
    taken, (note,) = chosen(
        series("LGE sax", slices=8, uid="1.1", acquired="20240101110000"),
        series("LGE sax", slices=8, uid="1.2", acquired="20240101120000"),
        series("LGE sax", slices=8, uid="1.3", acquired="20240101130000", image_type=("R",)),
    )
    assert taken == {"1.2"}
    assert "(magnitude before PSIR; acquired last)" in note


def test_an_original_goes_before_a_later_derived_one_but_not_before_the_magnitude():
    derived = {"original": False, "acquired": "20240101130000"}
    taken, (note,) = chosen(
        series("LGE sax", slices=8, uid="1.1", acquired="20240101120000"),
        series("LGE sax InlineVF", slices=8, uid="1.2", **derived),
    )
    assert taken == {"1.1"}
    assert "(original, not derived)" in note
    taken, _ = chosen(
        series("LGE sax", slices=8, uid="1.1", image_type=("R",)),
        series("LGE sax", slices=8, uid="1.2", **derived),
    )
    assert taken == {"1.2"}


def test_an_incomplete_series_that_lost_is_said_to_be_so():
    full = series("LGE sax psir", slices=8, uid="1.1", image_type=("R",))
    frames = series("LGE sax mag", slices=8, uid="1.2").frames
    (cut,) = split_series([*frames[:2], *frames[3:]])
    taken, (note,) = chosen(full, cut)
    assert taken == {"1.1"}
    assert "(most slices; 2 'LGE sax mag' has 7 slices (1 missing))" in note


TILTED = {"row": (1.0, 0.0, 0.0), "column": (0.0, 0.5, -(0.75**0.5))}  # by 60 degrees about x


def test_a_series_parallel_to_the_lge_goes_before_more_slices():
    spin_echo = {"physics": ("SE",), "echo_time_ms": 70.0}
    verdicts, notes = choose(
        [
            series("LGE sax", slices=8, uid="1.1"),
            series("haste", slices=30, uid="1.2", **spin_echo, **TILTED),
            series("tse", slices=8, uid="1.3", **spin_echo),
        ]
    )
    assert verdicts["1.3"].sequence == "T2"
    assert notes == ["T2: 2 series fit, 3 'tse' is taken (parallel to the LGE); change it in the map"]


def test_the_name_goes_before_the_tags():
    made = {"physics": ("GR", "IR"), "inversion_time_ms": 280.0}
    taken, _ = chosen(series("sax", slices=12, uid="1.1", **made), series("LGE sax", slices=8, uid="1.2"))
    assert taken == {"1.2"}


def test_single_slice_series_are_joined():
    singles = [series("LGE sax", start_mm=10.0 * k, uid=f"1.{k + 1}") for k in range(4)]
    taken, notes = chosen(*singles, series("LGE", slices=3, uid="1.9"))
    assert taken == {"1.1", "1.2", "1.3", "1.4"}
    assert "5 series fit, 1 'LGE sax' is taken" in notes[0]


def test_of_single_slices_at_one_position_the_latest_is_taken():
    again = series("LGE sax", start_mm=10.0, uid="1.5", acquired="20240101120000")
    first = [
        series("LGE sax", start_mm=10.0 * k, uid=f"1.{k + 1}", acquired="20240101110000") for k in range(3)
    ]
    assert chosen(*first, again)[0] == {"1.1", "1.5", "1.3"}


def test_of_single_slices_at_one_position_the_original_goes_before_a_later_derived_one():
    singles = [series("LGE sax", start_mm=10.0 * k, uid=f"1.{k + 1}") for k in range(3)]
    drawn = {"original": False, "acquired": "20240101120000"}
    derived = [series("LGE sax", start_mm=10.0 * k, uid=f"1.{k + 5}", **drawn) for k in range(3)]
    assert chosen(*singles, *derived)[0] == {"1.1", "1.2", "1.3"}


def test_single_slices_of_another_plane_are_not_joined():
    turned = series("LGE sax", uid="1.3", row=(0.0, 1.0, 0.0), column=(0.0, 0.0, 1.0))
    singles = [series("LGE sax", start_mm=10.0 * k, uid=f"1.{k + 1}") for k in range(2)]
    assert chosen(*singles, turned)[0] == {"1.1", "1.2"}
