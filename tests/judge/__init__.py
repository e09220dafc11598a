"""The one judge of the tests: what a history must hold, and how a history differs from that.

1. The judge shares no code with the product's fold, tables or engine. It is written from the contract's text.
2. `contract` replays a source partition by the contract: `events` reads a value, `arithmetic` folds an event, `tables`
   reads the state. `ledger` replays the small domain that the simulated workers run.
3. `histories` judges topics that stock readers see: what was committed. `transactions` judges a simulated cluster from
   inside: each transaction at its decision, each write to a store, each answer over HTTP.
4. Tests of the judge feed it broken histories. Each must be caught.

The simulation, the sweep, the chaos runs, the tests on a real Kafka and the unit tests of the fold use this judge.
`verify` is the product's own judge and another program.
"""
