//! A misbehaving registry, image builders, real daemons on private roots, a stand-in overlaybd snapshotter. For tests and `hack/bench` only.
