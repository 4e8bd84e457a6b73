"""The version of the preparation: kept preparations of another one are not used."""

PREPARATION_VERSION = 10
"""Raise it when ids, labels, masks or the columns of a kept preparation may come out different.

`tests/plugins/preparation/test_version.py` fails when the preparation's sources change and this does not.
"""
