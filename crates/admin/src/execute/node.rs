//! The nodes of the cluster.

use nightmail_cluster::{NodeName, NodeStatus};

use super::Answer;
use crate::context::AdminContext;
use crate::error::AdminError;
use crate::request::AdminRequest;
use crate::response::{AdminResponse, NodeView};

/// Carries a request about nodes out.
pub(super) async fn execute(context: &AdminContext, request: AdminRequest) -> Answer {
    use AdminRequest as R;
    match request {
        R::NodeList => list(context).await,
        R::NodeDrain { name } => drain(context, &name).await,
        R::NodeForget { name } => forget(context, &name).await,
        _ => Err(AdminError::failed("not a request about nodes")),
    }
}

async fn list(context: &AdminContext) -> Answer {
    let engine = context.store.committer().engine();
    let nodes = nightmail_cluster::nodes(engine.as_ref()).await?;
    Ok(AdminResponse::Nodes {
        items: nodes.iter().map(view).collect(),
    })
}

async fn drain(context: &AdminContext, name: &str) -> Answer {
    let engine = context.store.committer().engine();
    nightmail_cluster::request_drain(engine.as_ref(), &parse(name)?).await?;
    Ok(AdminResponse::Done)
}

async fn forget(context: &AdminContext, name: &str) -> Answer {
    let engine = context.store.committer().engine();
    nightmail_cluster::forget(engine.as_ref(), &parse(name)?).await?;
    Ok(AdminResponse::Done)
}

fn parse(name: &str) -> Result<NodeName, AdminError> {
    name.parse::<NodeName>()
        .map_err(|error| AdminError::usage(error.to_string()))
}

fn view(node: &NodeStatus) -> NodeView {
    NodeView {
        name: node.name.to_string(),
        state: node.state.name().to_owned(),
        roles: node.roles.iter().map(ToString::to_string).collect(),
        epoch: node.epoch.get(),
        leases: node.leases.iter().map(ToString::to_string).collect(),
        version: node.version.clone(),
        addresses: node.addresses.clone(),
        started: node.started.to_string(),
        last_beat: node.last_beat.map(|at| at.to_string()),
    }
}
