"""The handler author's workbench: skeletons to start from, and the tester of the contract (docs/check.md)."""
