"""The bundled benchmarks: this library beside what people use in its place, on the same rows, in one run.

The command is `batchwrite bench`; it needs the extra `bench`. Nothing is imported from here but by that command.
"""
