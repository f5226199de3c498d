//! `containerd.services.snapshots.v1.Snapshots` as a tonic service, written by hand: containerd-client has the messages
//! but builds no servers.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use containerd_client::services::v1::snapshots::{
    CleanupRequest, CommitSnapshotRequest, Info, Kind, ListSnapshotsRequest, ListSnapshotsResponse, MountsRequest,
    MountsResponse, PrepareSnapshotRequest, PrepareSnapshotResponse, RemoveSnapshotRequest, StatSnapshotRequest,
    StatSnapshotResponse, UpdateSnapshotRequest, UpdateSnapshotResponse, UsageRequest, ViewSnapshotRequest, ViewSnapshotResponse,
};
use prost::Message;
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::{Grpc, NamedService},
};
use tonic_prost::ProstCodec;

use super::{filter, store::Store};

/// The service over one store.
#[derive(Clone, Debug)]
pub(super) struct Snapshots(pub(super) Arc<Mutex<Store>>);

impl NamedService for Snapshots {
    const NAME: &'static str = "containerd.services.snapshots.v1.Snapshots";
}

impl Service<http::Request<Body>> for Snapshots {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let snapshots = self.clone();
        Box::pin(async move { Ok(snapshots.dispatch(request).await) })
    }
}

impl Snapshots {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn dispatch(self, request: http::Request<Body>) -> http::Response<Body> {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        match method.as_str() {
            "Prepare" => unary(request, move |ask| self.prepare(ask)).await,
            "View" => unary(request, move |ask| self.view(ask)).await,
            "Mounts" => {
                unary(request, move |ask: MountsRequest| Ok(MountsResponse { mounts: self.store().mounts(&ask.key)? })).await
            }
            "Commit" => {
                unary(request, move |ask: CommitSnapshotRequest| self.store().commit(&ask.name, &ask.key, ask.labels)).await
            }
            "Remove" => unary(request, move |ask: RemoveSnapshotRequest| self.store().remove(&ask.key)).await,
            "Stat" => {
                let stat = move |ask: StatSnapshotRequest| Ok(StatSnapshotResponse { info: Some(self.store().info(&ask.key)?) });
                unary(request, stat).await
            }
            "Update" => unary(request, move |ask| self.update(ask)).await,
            "Usage" => unary(request, move |ask: UsageRequest| self.store().usage(&ask.key)).await,
            // Nothing is removed later here, so there is nothing to clean up.
            "Cleanup" => unary(request, move |_: CleanupRequest| Ok(())).await,
            "List" => self.list(request).await,
            _ => Status::unimplemented(method).into_http(),
        }
    }

    fn prepare(&self, ask: PrepareSnapshotRequest) -> Result<PrepareSnapshotResponse, Status> {
        let mounts = self.store().create(Kind::Active, &ask.key, &ask.parent, ask.labels)?;
        Ok(PrepareSnapshotResponse { mounts })
    }

    fn view(&self, ask: ViewSnapshotRequest) -> Result<ViewSnapshotResponse, Status> {
        let mounts = self.store().create(Kind::View, &ask.key, &ask.parent, ask.labels)?;
        Ok(ViewSnapshotResponse { mounts })
    }

    fn update(&self, ask: UpdateSnapshotRequest) -> Result<UpdateSnapshotResponse, Status> {
        let info = ask.info.ok_or_else(|| Status::invalid_argument("no snapshot is named"))?;
        let paths = ask.update_mask.map(|mask| mask.paths).unwrap_or_default();
        Ok(UpdateSnapshotResponse { info: Some(self.store().update(&info, &paths)?) })
    }

    async fn list(self, request: http::Request<Body>) -> http::Response<Body> {
        let handler = tower::service_fn(move |request: Request<ListSnapshotsRequest>| {
            let answer = filter::parse(&request.into_inner().filters).map(|filters| {
                let info: Vec<Info> = self.store().all().into_iter().filter(|info| filters.accept(info)).collect();
                Response::new(tokio_stream::iter([Ok(ListSnapshotsResponse { info })]))
            });
            async { answer }
        });
        Grpc::new(ProstCodec::default()).server_streaming(handler, request).await
    }
}

async fn unary<Q, A>(
    request: http::Request<Body>,
    answer: impl Fn(Q) -> Result<A, Status> + Send + Sync + 'static,
) -> http::Response<Body>
where
    Q: Message + Default + Send + 'static,
    A: Message + Default + Send + 'static,
{
    let handler = tower::service_fn(move |request: Request<Q>| {
        let answer = answer(request.into_inner()).map(Response::new);
        async { answer }
    });
    Grpc::new(ProstCodec::<A, Q>::default()).unary(handler, request).await
}
