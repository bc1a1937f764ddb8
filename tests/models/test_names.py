"""Reading one of timm's networks ends in a supported family or in a refusal that names a part of the network.

`python benchmarks/timm_names.py` does the same for all names.
"""

import pytest

from benchmarks.timm_names import names, names_a_part, read
from tests.models.stock import vit

NAMES = {
    "supported": (
        *("resnet18", "vit_tiny_patch16_224", "vit_pe_lang_base_patch16_224", "vit_medium_patch16_gap_240"),
        *("vit_base_patch16_siglip_gap_224", "mixer_s32_224", "convnext_atto"),
    ),
    "refused": (
        *("vitamin_small_224", "aimv2_large_patch14_224", "resmlp_12_224", "skresnet18", "gmlp_ti16_224"),
        *("vit_base_patch16_xp_224", "vit_base_patch16_rpn_224", "vit_base_r50_s16_224", "vit_tiny_r_s16_p8_224"),
        *("vit_small_patch16_18x2_224", "vit_base_mci_224", "vit_so400m_patch14_siglip_384", "seresnet18"),
        *("deit_tiny_distilled_patch16_224", "vit_base_patch16_siglip_224", "resnet26d", "resnext50_32x4d"),
        *("convnextv2_atto", "convnext_atto_ols", "convnext_zepto_rms", "convnext_tiny_hnf", "resnetblur18"),
        *("vit_relpos_small_patch16_224", "resnetv2_50", "vit_dpwee_patch16_reg1_gap_256"),
    ),
}
CASES = [(name, outcome) for outcome, known in NAMES.items() for name in known]


@pytest.mark.parametrize(("name", "outcome"), [case for case in CASES if case[0] in names([])])
def test_a_name_of_timms_is_supported_or_refused_by_a_part_of_it(name: str, outcome: str) -> None:
    found, message, proof = read(name)
    assert found == outcome, message
    assert proof, message


@pytest.mark.parametrize(
    "message",
    [
        "this VisionTransformer is not a plain network of the family 'vit': 'Block' object has no attribute 'ls1'",
        "this VisionTransformer is not a plain network of the family 'vit': module 'blocks.9' has eps = 1",
        "this VisionTransformer is not a plain network of the family 'vit': it has stem = 3, expected 1",
        "a ResNet belongs to no family",
    ],
)
def test_a_refusal_without_a_part_of_the_network_is_noticed(message: str) -> None:
    assert not names_a_part(vit(), message)
