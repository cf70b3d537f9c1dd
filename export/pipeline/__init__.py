"""From a configuration and a checkpoint to integers: what a network's linear layers become in a bundle.

    policies = decide(config, network)                      # per layer: bits, groups, method
    results = quantize_network(checkpoint, policies, ...)   # runs the network over a text
    results.linear("model.layers.0.mlp.down_proj")          # QuantizedWeight and the grid of its inputs

`open_prequantized` gives the same for a checkpoint that is quantized already. Round-to-nearest alone needs
none of this: it streams (see export.weights).
"""
