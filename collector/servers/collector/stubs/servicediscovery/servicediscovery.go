// Package servicediscovery stands for Amazon's: the load balancer's resolver for Cloud Map compiles with it, and finds
// nothing. The real module is not in every Go module proxy, and nothing here runs on Amazon's machines.
package servicediscovery

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
)

// Client finds nothing.
type Client struct{}

// DiscoverInstancesInput has what the resolver asks by.
type DiscoverInstancesInput struct {
	NamespaceName, ServiceName, OwnerAccount *string
	HealthStatus                             types.HealthStatusFilter
	MaxResults                               *int32
	OptionalParameters, QueryParameters      map[string]string
}

// DiscoverInstancesOutput has what the resolver reads.
type DiscoverInstancesOutput struct{ Instances []types.HttpInstanceSummary }

// NewFromConfig takes any configuration.
func NewFromConfig(any) *Client { return &Client{} }

// DiscoverInstances says that it cannot.
func (*Client) DiscoverInstances(context.Context, *DiscoverInstancesInput) (*DiscoverInstancesOutput, error) {
	return nil, errors.New("this Collector is built without AWS Cloud Map")
}
