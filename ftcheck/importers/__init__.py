"""Importers: another framework's configuration as a layer of a job, with every key in exactly one list.

    result = importing.read("axolotl", Path("qlora.yml"), folder=Path("."))
    result.tree        # the layer, each value at its line in qlora.yml
    result.imported    # mapped, defaults, without effect, not mapped

One module a framework holds its semantics; names of keys, defaults and renamed arguments are dated facts in
`ftcheck/tables/importers/`. Nothing of a configuration is run: scripts are read with `ast`.
"""
