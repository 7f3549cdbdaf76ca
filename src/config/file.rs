//! The file as it is written: sections and keys, every value with its place in the text.
//!
//! Each section refuses keys that it does not know. Everything is optional
//! here: what is required, in range and consistent is for `convert` to say, so
//! that all problems are told at once.

use crate::config::health::{HealthKind, StatusRange};
use crate::config::kubernetes::{Namespace, ObjectName};
use crate::config::listener::TrustedPeer;
use crate::config::observe::LogFilter;
use crate::config::units::{
    BoundKind, Bytes, Capacity, ClientAuthKind, CookieName, FileMode, FilePath, KeySource, Label,
    Replacement, RetryOn, ServerUrl, SessionSource, Text, UrlPath, Whole, ZoneId,
};
use crate::config::{
    ClientTraces, ClusterService, CredentialSource, DnsMode, Form, HostPort, HttpMethod, ListenAddress,
    ObjectUrl, Protocol, TlsPolicy, UpstreamProtocol,
};
use crate::domain::limit::concurrency::Priority;
use crate::domain::name::{DnsName, RegionId, RouteId, ServiceId, Zone};
use crate::domain::routing::{
    AmbiguousPaths, ClientCertificate, ExactPath, FieldName, FieldValue, HostPattern, Method, PathPrefix,
    Scheme,
};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use toml::Spanned;

mod endpoint;
mod placed;

pub(crate) use endpoint::EndpointEntry;
pub(crate) use placed::{Entries, FromFile, Key, List, Placed, Section};

/// Derives a section: `Deserialize` that refuses unknown keys.
macro_rules! sections {
    ($($name:ident { $($key:ident: $type:ty),* $(,)? })*) => {
        $(
            #[derive(Debug, Default, serde::Deserialize)]
            #[serde(deny_unknown_fields)]
            pub(super) struct $name {
                $(pub(super) $key: $type,)*
            }
        )*
    };
}

sections! {
    File {
        edge: Option<Section<EdgeSection>>,
        listeners: Option<Vec<Section<ListenerSection>>>,
        tls: Option<Section<TlsSection>>,
        peer: Option<Section<PeerSection>>,
        regions: Option<Entries<RegionId, Section<RegionSection>>>,
        probes: Option<Section<ProbesSection>>,
        ejection: Option<Section<EjectionSection>>,
        services: Option<Entries<ServiceId, Section<ServiceSection>>>,
        rate_limits: Option<Vec<Section<RateLimitSection>>>,
        routes: Option<Vec<Section<RouteSection>>>,
        names: Option<Entries<DnsName, Section<NameSection>>>,
        failover: Option<Section<FailoverSection>>,
        dns: Option<Section<DnsSection>>,
        aws: Option<Section<AwsSection>>,
        resolver: Option<Section<ResolverSection>>,
        kubernetes: Option<Section<KubernetesSection>>,
        admin: Option<Section<AdminSection>>,
        audit: Option<Section<AuditSection>>,
        log: Option<Section<LogSection>>,
        access_log: Option<Section<AccessLogSection>>,
        journal: Option<Section<JournalSection>>,
        archive: Option<Section<ArchiveSection>>,
        tracing: Option<Section<TracingSection>>,
    }
    EdgeSection {
        region: Key<RegionId>,
        siblings: Key<HostPort>,
        zone: Key<Zone>,
        trusted_proxies: List<TrustedPeer>,
        ambiguous_paths: Key<AmbiguousPaths>,
        drain_notice: Key<Duration>,
        drain_deadline: Key<Duration>,
    }
    ListenerSection {
        name: Key<Label>,
        address: Key<ListenAddress>,
        mode: Key<FileMode>,
        protocol: Key<Protocol>,
        https_redirect: Key<bool>,
        https_port: Key<Whole>,
        proxy_protocol: Key<bool>,
        trusted: List<IpNet>,
        max_connections: Key<Whole>,
        max_connections_per_client: Key<Whole>,
        head_timeout: Key<Duration>,
        idle_timeout: Key<Duration>,
        handshake_timeout: Key<Duration>,
        client_timeout: Key<Duration>,
        min_rate: Key<Bytes>,
        max_head: Key<Bytes>,
        max_uri: Key<Bytes>,
        max_headers: Key<Whole>,
        max_body: Key<Bytes>,
        max_streams: Key<Whole>,
    }
    TlsSection {
        certificate: Key<FilePath>,
        key: Key<FilePath>,
        client_auth: Key<ClientAuthKind>,
        client_ca: Key<FilePath>,
        policy: Key<TlsPolicy>,
        hsts: Option<Section<HstsSection>>,
        certificates: Option<Vec<Section<CertificateSection>>>,
    }
    HstsSection {
        max_age: Key<Duration>,
        include_subdomains: Key<bool>,
        preload: Key<bool>,
    }
    CertificateSection {
        certificate: Key<FilePath>,
        key: Key<FilePath>,
        client_auth: Key<ClientAuthKind>,
        client_ca: Key<FilePath>,
    }
    PeerSection {
        address: Key<SocketAddr>,
        certificate: Key<FilePath>,
        key: Key<FilePath>,
        ca: Key<FilePath>,
    }
    RegionSection {
        peer: Key<HostPort>,
        server_name: Key<DnsName>,
        capacity: Key<Capacity>,
        bias: Key<Duration>,
        place: Key<Label>,
        addresses: List<IpAddr>,
        alias: Option<Section<AliasSection>>,
        cname: Key<DnsName>,
        health_port: Key<Whole>,
    }
    AliasSection {
        name: Key<DnsName>,
        zone_id: Key<ZoneId>,
        ipv6: Key<bool>,
    }
    TargetSection {
        addresses: List<IpAddr>,
        alias: Option<Section<AliasSection>>,
        cname: Key<DnsName>,
    }
    ProbesSection {
        interval: Key<Duration>,
        timeout: Key<Duration>,
        fresh_connection: Key<Duration>,
        sparse_interval: Key<Duration>,
        fall: Key<Whole>,
        rise: Key<Whole>,
        rtt_window: Key<Duration>,
        switch_margin_relative: Key<f64>,
        switch_margin_absolute: Key<Duration>,
    }
    EjectionSection {
        consecutive_failures: Key<Whole>,
        failure_share: Key<f64>,
        failure_volume: Key<Whole>,
        failure_window: Key<Duration>,
        ejection: Key<Duration>,
        ejection_max: Key<Duration>,
        probation: Key<Duration>,
        outlier_deviations: Key<f64>,
        outlier_latency: Key<f64>,
        outlier_volume: Key<Whole>,
        ejected_max: Key<f64>,
    }
    ServiceSection {
        endpoints: Option<Spanned<Entries<RegionId, Spanned<Vec<EndpointEntry>>>>>,
        kubernetes: Key<ClusterService>,
        capacity: Option<Spanned<Entries<RegionId, Placed<Capacity>>>>,
        protocol: Key<UpstreamProtocol>,
        tls: Option<Section<UpstreamTlsSection>>,
        health: Option<Section<HealthSection>>,
        connect_timeout: Key<Duration>,
        read_timeout: Key<Duration>,
        max_connections_per_endpoint: Key<Whole>,
        attempts: Key<Whole>,
        retry_budget: Option<Section<RetryBudgetSection>>,
        concurrency: Option<Section<ConcurrencySection>>,
        affinity: Option<Section<AffinitySection>>,
        hedging: Option<Section<HedgingSection>>,
    }
    HealthSection {
        kind: Key<HealthKind>,
        path: Key<UrlPath>,
        host: Key<DnsName>,
        method: Key<HttpMethod>,
        status: List<StatusRange>,
        headers: Option<Spanned<Vec<Section<FieldSection>>>>,
        body: Key<Text>,
        body_regex: Key<Text>,
        service: Key<Text>,
        port: Key<Whole>,
        interval: Key<Duration>,
        timeout: Key<Duration>,
    }
    UpstreamTlsSection {
        ca: Key<FilePath>,
        server_name: Key<DnsName>,
        certificate: Key<FilePath>,
        key: Key<FilePath>,
    }
    RetryBudgetSection {
        ratio: Key<f64>,
        min_per_second: Key<f64>,
        window: Key<Duration>,
    }
    ConcurrencySection {
        kind: Key<BoundKind>,
        limit: Key<Whole>,
        min: Key<Whole>,
        max: Key<Whole>,
        initial: Key<Whole>,
        tolerance: Key<f64>,
        window: Key<Duration>,
        probe: Key<Duration>,
        normal_share: Key<f64>,
        sheddable_share: Key<f64>,
    }
    HedgingSection {
        quantile: Key<f64>,
        delay_min: Key<Duration>,
        delay_max: Key<Duration>,
        share: Key<f64>,
        samples_min: Key<Whole>,
    }
    AffinitySection {
        by: Key<SessionSource>,
        cookie: Key<CookieName>,
        max_age: Key<Duration>,
        secret: Key<FilePath>,
    }
    RateLimitSection {
        name: Key<Label>,
        key: Key<KeySource>,
        requests: Key<Whole>,
        per: Key<Duration>,
        burst: Key<Whole>,
        keys_max: Key<Whole>,
    }
    RouteSection {
        name: Key<RouteId>,
        hosts: List<HostPattern>,
        path: Key<ExactPath>,
        path_prefix: Key<PathPrefix>,
        path_regex: Key<Text>,
        scheme: Key<Scheme>,
        methods: List<Method>,
        headers: Option<Spanned<Vec<Section<FieldSection>>>>,
        query: Option<Spanned<Vec<Section<ParamSection>>>>,
        service: Key<ServiceId>,
        split: Option<Spanned<Entries<ServiceId, Placed<Whole>>>>,
        redirect: Option<Section<RedirectSection>>,
        respond: Option<Section<RespondSection>>,
        rewrite: Option<Section<RewriteSection>>,
        request_headers: Option<Section<ChangesSection>>,
        response_headers: Option<Section<ChangesSection>>,
        timeouts: Option<Section<TimeoutsSection>>,
        retries: Option<Section<RetriesSection>>,
        max_body: Key<Bytes>,
        allow: List<IpNet>,
        deny: List<IpNet>,
        rate_limits: List<Label>,
        hedging: Key<bool>,
        client_certificate: Key<ClientCertificate>,
        priority: Key<Priority>,
        sample: Key<f64>,
    }
    TimeoutsSection {
        connect: Key<Duration>,
        first_byte: Key<Duration>,
        between_bytes: Key<Duration>,
        upgrade_idle: Key<Duration>,
        request: Key<Duration>,
    }
    RetriesSection {
        attempts: Key<Whole>,
        on: List<RetryOn>,
    }
    FieldSection {
        name: Key<FieldName>,
        value: Key<FieldValue>,
        regex: Key<Text>,
    }
    ParamSection {
        name: Key<Text>,
        value: Key<Text>,
    }
    RedirectSection {
        status: Key<Whole>,
        scheme: Key<Scheme>,
        host: Key<DnsName>,
        port: Key<Whole>,
        path: Key<ExactPath>,
        path_prefix: Key<PathPrefix>,
        replacement: Key<Replacement>,
        keep_query: Key<bool>,
    }
    RespondSection {
        status: Key<Whole>,
        text: Key<Text>,
        content_type: Key<FieldValue>,
    }
    RewriteSection {
        path: Key<ExactPath>,
        path_prefix: Key<PathPrefix>,
        replacement: Key<Replacement>,
        host: Key<DnsName>,
        upstream_host: Key<bool>,
    }
    ChangesSection {
        set: Option<Entries<FieldName, Placed<FieldValue>>>,
        add: Option<Entries<FieldName, Placed<FieldValue>>>,
        remove: List<FieldName>,
    }
    NameSection {
        form: Key<Form>,
        services: List<ServiceId>,
        regions: List<RegionId>,
        weights: Option<Spanned<Entries<RegionId, Placed<Whole>>>>,
        ttl: Key<Duration>,
        zone_id: Key<ZoneId>,
        targets: Option<Entries<RegionId, Section<TargetSection>>>,
    }
    FailoverSection {
        down_after: Key<Duration>,
        view_fresh: Key<Duration>,
        min_live: Key<Whole>,
        require_operator_below: Key<Whole>,
        max_shift: Key<f64>,
        hold_down: Key<Duration>,
        max_changes_per_hour: Key<Whole>,
        plan_expiry: Key<Duration>,
        writer_patience: Key<Duration>,
        close_over: Key<Duration>,
    }
    DnsSection {
        mode: Key<DnsMode>,
        zone_id: Key<ZoneId>,
        endpoint: Key<ServerUrl>,
        poll: Key<Duration>,
        insync_poll: Key<Duration>,
        insync_allowance: Key<Duration>,
        health_interval: Key<Duration>,
        health_threshold: Key<Whole>,
        requests_per_second: Key<Whole>,
        verify: Key<bool>,
        servers: List<SocketAddr>,
    }
    AwsSection {
        credentials: Key<CredentialSource>,
        config_poll: Key<Duration>,
    }
    ResolverSection {
        nameservers: List<SocketAddr>,
        ttl_min: Key<Duration>,
        ttl_max: Key<Duration>,
        timeout: Key<Duration>,
    }
    KubernetesSection {
        kubeconfig: Key<FilePath>,
        namespace: Key<Namespace>,
        lease: Key<ObjectName>,
        lease_duration: Key<Duration>,
    }
    AdminSection {
        address: Key<SocketAddr>,
        tls: Option<Section<AdminTlsSection>>,
        operators: Option<Vec<Section<OperatorSection>>>,
    }
    AdminTlsSection {
        certificate: Key<FilePath>,
        key: Key<FilePath>,
        client_ca: Key<FilePath>,
    }
    OperatorSection {
        name: Key<Text>,
        token_file: Key<FilePath>,
        token_sha256: Key<Text>,
        certificate_name: Key<Text>,
    }
    AuditSection {
        output: Key<FilePath>,
    }
    LogSection {
        filter: Key<LogFilter>,
    }
    TracingSection {
        sample: Key<f64>,
        clients: Key<ClientTraces>,
        otlp: Option<Section<OtlpSection>>,
    }
    OtlpSection {
        endpoint: Key<ServerUrl>,
        service_name: Key<Text>,
        timeout: Key<Duration>,
        batch_max: Key<Whole>,
        batch_delay: Key<Duration>,
    }
    JournalSection {
        path: Key<FilePath>,
        max_bytes: Key<Bytes>,
        file_bytes: Key<Bytes>,
    }
    ArchiveSection {
        s3: Key<ObjectUrl>,
        audit_every: Key<Duration>,
    }
    AccessLogSection {
        output: Key<FilePath>,
        sample: Key<f64>,
        query: Key<bool>,
    }
}
