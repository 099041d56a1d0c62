"""Train and judge a network: model, weights, loops, evaluation and checkpoints."""
