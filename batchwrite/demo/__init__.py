"""The Online Retail data set written through batchwrite: for `batchwrite demo` and the bundled example."""
