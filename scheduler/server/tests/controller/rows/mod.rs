//! A test for each row of the table of features in `docs/batch-service.md`, named after it: through the API of a real
//! controller, whose nodes the tests play. What needs real nodes as well is in the story that both SDKs tell.

mod account;
mod document;
mod farm;
mod jobs;
mod native;
mod pools;
mod table;
mod tasks;

use self::farm::Farm;
