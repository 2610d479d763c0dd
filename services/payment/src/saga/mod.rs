//! One payment's life: `state` is the table (pure), `settle` asks the processor and writes down what it said (calls the
//! processor, writes through `store`).

pub mod settle;
pub mod state;
