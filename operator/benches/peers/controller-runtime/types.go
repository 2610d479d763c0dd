package main

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var groupVersion = schema.GroupVersion{Group: "resilience.valerix.io", Version: "v1alpha1"}

func addToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(groupVersion, &ResilientService{}, &ResilientServiceList{})
	metav1.AddToGroupVersion(scheme, groupVersion)
	return nil
}

// ResilientService is as much of ours as the bench has, which is less to keep than all of it.
type ResilientService struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   Spec   `json:"spec"`
	Status Status `json:"status,omitempty"`
}

// ResilientServiceList is what a list is read into.
type ResilientServiceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []ResilientService `json:"items"`
}

// Spec is what is wanted.
type Spec struct {
	Image                         string     `json:"image"`
	Replicas                      *int32     `json:"replicas,omitempty"`
	TerminationGracePeriodSeconds int64      `json:"terminationGracePeriodSeconds,omitempty"`
	Ports                         []Port     `json:"ports,omitempty"`
	Resilience                    Resilience `json:"resilience,omitempty"`
}

// Port is one of the container, and where the Service has it.
type Port struct {
	Name          string `json:"name"`
	ContainerPort int32  `json:"containerPort"`
	ServicePort   int32  `json:"servicePort,omitempty"`
}

// Resilience is the part of it that the bench sets.
type Resilience struct {
	Mode     string `json:"mode,omitempty"`
	Protocol string `json:"protocol,omitempty"`
}

// Status is what was seen.
type Status struct {
	ObservedGeneration int64              `json:"observedGeneration"`
	Replicas           int32              `json:"replicas"`
	ReadyReplicas      int32              `json:"readyReplicas"`
	Selector           string             `json:"selector,omitempty"`
	Summary            *Summary           `json:"summary,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
}

// Summary is for kubectl.
type Summary struct {
	Replicas string `json:"replicas"`
	Config   string `json:"config"`
	Circuits string `json:"circuits"`
	Image    string `json:"image"`
}

func (s *Spec) replicas() int32 {
	if s.Replicas == nil {
		return 1
	}
	return *s.Replicas
}

// DeepCopy is what controller-gen would write.
func (s *ResilientService) DeepCopy() *ResilientService {
	copied := *s
	copied.ObjectMeta = *s.ObjectMeta.DeepCopy()
	if s.Spec.Replicas != nil {
		replicas := *s.Spec.Replicas
		copied.Spec.Replicas = &replicas
	}
	copied.Spec.Ports = slices.Clone(s.Spec.Ports)
	if s.Status.Summary != nil {
		summary := *s.Status.Summary
		copied.Status.Summary = &summary
	}
	copied.Status.Conditions = slices.Clone(s.Status.Conditions)
	return &copied
}

// DeepCopyObject makes it one of Kubernetes' objects.
func (s *ResilientService) DeepCopyObject() runtime.Object {
	return s.DeepCopy()
}

// DeepCopyObject makes it one of Kubernetes' objects.
func (l *ResilientServiceList) DeepCopyObject() runtime.Object {
	copied := *l
	copied.ListMeta = *l.ListMeta.DeepCopy()
	copied.Items = make([]ResilientService, len(l.Items))
	for index := range l.Items {
		copied.Items[index] = *l.Items[index].DeepCopy()
	}
	return &copied
}
