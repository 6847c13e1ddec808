"""How completions are drawn: one file per engine, each with the contract of base.Engine."""
