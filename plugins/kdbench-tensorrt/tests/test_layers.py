"""What the inspector tells, in the form of either major, and what is made of it."""

from __future__ import annotations

import json

import pytest

from kdbench_tensorrt.layers import Layer, computed_in, networks_from_json, parse_layers, to_json


def ten(name, kind, form, tactic=""):
    """A layer as TensorRT 10 tells it."""
    tensors = [{"Name": "t", "Location": "Device", "Dimensions": [1, 8], "Format/Datatype": form}]
    return {"Name": name, "LayerType": kind, "Inputs": tensors, "Outputs": tensors, "TacticName": tactic}


def eleven(name, kind, dtype, tactic=""):
    """A layer as TensorRT 11 tells it."""
    tensors = [{"Name": "t", "Dimensions": [1, 8], "Format": "Row major linear", "DataType": dtype}]
    return {"Name": name, "LayerType": kind, "Inputs": tensors, "Outputs": tensors, "TacticName": tactic}


def told(*layers):
    return parse_layers(json.dumps({"Layers": layers, "Bindings": ["images", "logits"]}))


@pytest.mark.parametrize(
    ("form", "precision"),
    [
        ("Row major linear FP32", "fp32"),
        ("Float", "fp32"),
        ("Channel major FP16 format where channel % 8 == 0", "fp16"),
        ("Half", "fp16"),
        ("Row major linear BF16", "bf16"),
        ("BFloat16", "bf16"),
        ("Thirty-two wide channel vectorized row major Int8 format", "int8"),
        ("Int32", ""),
        ("N/A due to dynamic shapes", ""),
    ],
)
@pytest.mark.parametrize("form_of", [ten, eleven])
def test_types_are_read_in_the_form_of_either_major(form_of, form, precision):
    [layer] = told(form_of("conv", "CaskConvolution", form, "sm80_xmma_fprop"))
    assert layer == Layer("conv", "CaskConvolution", precision, "sm80_xmma_fprop")


def test_a_layer_that_is_a_mere_name_has_nothing_else():
    assert told("conv + relu") == (Layer("conv + relu", "", ""),)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"Layers": []}', "null"])
def test_what_is_no_json_tells_no_layers(text):
    assert parse_layers(text) == ()


def layers(*kinds, of="CaskConvolution", tactic=""):
    return tuple(Layer(f"layer-{index}", of, kind, tactic) for index, kind in enumerate(kinds))


@pytest.mark.parametrize("asked", ["fp16", "bf16"])
def test_a_network_computes_in_what_half_of_its_layers_do(asked):
    assert computed_in(layers(asked, asked, "fp32"), (), asked) == asked
    assert computed_in(layers(asked, "fp32", "fp32"), (), asked) == "fp32"


def test_layers_that_only_convert_do_not_count():
    converting = layers("fp16", "fp16", "fp16", of="Reformat")
    assert computed_in((*converting, *layers("fp32")), layers("fp32"), "fp16") == "fp32"
    assert computed_in((*layers("fp32", of="Reformat"), *layers("fp16")), (), "fp16") == "fp16"


def test_of_a_network_fused_into_one_layer_its_own_types_decide():
    fused = layers("fp32", of="Myelin")
    assert computed_in(fused, layers("fp16", "fp16"), "fp16") == "fp16"
    assert computed_in(fused, layers("fp32", "fp32"), "fp16") == "fp32"
    assert computed_in(told("a", "b", "c"), layers("bf16", "bf16"), "bf16") == "bf16"


def test_an_engine_that_tells_its_layers_is_believed_before_the_network():
    assert computed_in(layers("fp32", "fp32", "fp32"), layers("fp16", "fp16"), "fp16") == "fp32"


def test_tf32_is_a_leave_and_a_kernel_that_takes_it_unasked_shows():
    plain = layers("fp32", tactic="sm80_xmma_fprop_implicit_gemm_f32f32")
    kernels = layers("fp32", tactic="sm80_xmma_fprop_implicit_gemm_tf32f32")
    assert computed_in(plain, plain, "fp32") == "fp32"
    assert computed_in(plain, plain, "tf32") == "tf32"
    assert computed_in(kernels, plain, "fp32") == "tf32"


def test_what_is_kept_can_be_read_back():
    engine, network = layers("fp16", tactic="t"), layers("fp16", "fp32")
    text = to_json({"batch-1.engine": (engine, network)})
    assert networks_from_json(text) == {"batch-1.engine": network}
    assert json.loads(text)["batch-1.engine"]["engine"][0]["tactic"] == "t"
