"""Computing a loop's objective again with other inputs, and delivering its gradients."""
