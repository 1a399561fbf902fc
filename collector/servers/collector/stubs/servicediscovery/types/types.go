// Package types has the types of servicediscovery that the load balancer names.
package types

// HealthStatusFilter is one of the following.
type HealthStatusFilter string

// The filters that there are.
const (
	HealthStatusFilterHealthy          HealthStatusFilter = "HEALTHY"
	HealthStatusFilterUnhealthy        HealthStatusFilter = "UNHEALTHY"
	HealthStatusFilterAll              HealthStatusFilter = "ALL"
	HealthStatusFilterHealthyOrElseAll HealthStatusFilter = "HEALTHY_OR_ELSE_ALL"
)

// HttpInstanceSummary is one instance.
type HttpInstanceSummary struct{ Attributes map[string]string }
