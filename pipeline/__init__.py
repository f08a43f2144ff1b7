"""The Beam graph, its options, sources, sinks, ledger, runners and funnel."""
