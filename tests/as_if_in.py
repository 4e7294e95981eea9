"""Calls that seem to come from another module, as those of RecBole."""

import types

import torch


def as_if_in(module, function):
    """The function, as if it stood in another module."""
    names = {"__name__": module, "torch": torch}
    return types.FunctionType(function.__code__, names, argdefs=function.__defaults__)
