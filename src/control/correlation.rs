//! The name of the request that is being answered, so that the audit log, problems and logs name the same one.
//! What is done without a request has none.

use std::future::Future;
use std::sync::Arc;

tokio::task_local! {
    static CURRENT: Arc<str>;
}

/// Answers a request under this name.
pub async fn within<F: Future>(id: Arc<str>, answer: F) -> F::Output {
    CURRENT.scope(id, answer).await
}

/// The name of the request that is being answered here.
pub fn current() -> Option<Arc<str>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// What is said of a deed, with the name of the request that asked for it.
pub(super) fn noted(mut data: serde_json::Value) -> serde_json::Value {
    if data.is_null() {
        data = serde_json::Value::Object(serde_json::Map::new());
    }
    if let (Some(id), Some(map)) = (current(), data.as_object_mut()) {
        map.insert("request".to_owned(), serde_json::Value::String(id.to_string()));
    }
    data
}
