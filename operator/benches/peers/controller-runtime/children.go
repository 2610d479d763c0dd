package main

import (
	"encoding/json"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The children are those that operator/src/resilient_service/build makes of a specification without a guard, volumes,
// probes and the like.

const (
	serviceLabel  = "resilience.valerix.io/service"
	headlessLabel = "resilience.valerix.io/headless"
	// User and group of every container.
	user = 65532
	// How long a rollout may stand still. Unit: seconds.
	progressDeadline = 300
	// Pause before a pod is told to end. Unit: seconds.
	preStop = 5
)

func selector(service *ResilientService) map[string]string {
	return map[string]string{serviceLabel: service.Name}
}

func metadata(service *ResilientService, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: service.Namespace, Labels: labels(service)}
}

func labels(service *ResilientService) map[string]string {
	return map[string]string{
		serviceLabel:                   service.Name,
		"app.kubernetes.io/name":       service.Name,
		"app.kubernetes.io/managed-by": "valerix",
	}
}

func buildServiceAccount(service *ResilientService) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{
		ObjectMeta:                   metadata(service, service.Name),
		AutomountServiceAccountToken: ptr.To(false),
	}
}

// policy is the document of a service without targets.
type policy struct {
	Version int    `json:"version"`
	Mode    string `json:"mode"`
	Chaos   struct {
		Admission string `json:"admission"`
	} `json:"chaos"`
	Inbound struct {
		Timeout     string `json:"timeout"`
		Idempotency struct {
			TTL         string `json:"ttl"`
			LockTimeout string `json:"lockTimeout"`
		} `json:"idempotency"`
	} `json:"inbound"`
	Targets []string `json:"targets"`
}

func buildConfigMap(service *ResilientService, ready int32) (*corev1.ConfigMap, error) {
	document := policy{Version: 1, Mode: "Enforce", Targets: []string{}}
	if service.Spec.Resilience.Mode != "" {
		document.Mode = service.Spec.Resilience.Mode
	}
	document.Chaos.Admission = "Denied"
	document.Inbound.Timeout = "15s"
	document.Inbound.Idempotency.TTL = "24h"
	document.Inbound.Idempotency.LockTimeout = "30s"
	if ready == 0 {
		// Before any pod is ready each is to take the share that it will have.
		ready = service.Spec.replicas()
	}
	runtime := struct {
		Version       int   `json:"version"`
		ReadyReplicas int32 `json:"readyReplicas"`
	}{1, ready}
	data := map[string]string{}
	for name, document := range map[string]any{"policy.v1.json": document, "runtime.json": runtime} {
		text, err := json.MarshalIndent(document, "", "  ")
		if err != nil {
			return nil, err
		}
		data[name] = string(text) + "\n"
	}
	return &corev1.ConfigMap{ObjectMeta: metadata(service, service.Name+"-policy"), Data: data}, nil
}

func servicePort(port Port, number int32) corev1.ServicePort {
	return corev1.ServicePort{
		Name:       port.Name,
		Port:       number,
		Protocol:   corev1.ProtocolTCP,
		TargetPort: intstr.FromInt32(port.ContainerPort),
	}
}

func buildService(service *ResilientService) *corev1.Service {
	built := &corev1.Service{
		ObjectMeta: metadata(service, service.Name),
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Selector: selector(service)},
	}
	for _, port := range service.Spec.Ports {
		number := port.ServicePort
		if number == 0 {
			number = port.ContainerPort
		}
		built.Spec.Ports = append(built.Spec.Ports, servicePort(port, number))
	}
	return built
}

func buildPodsService(service *ResilientService) *corev1.Service {
	built := &corev1.Service{
		ObjectMeta: metadata(service, service.Name+"-pods"),
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: corev1.ClusterIPNone, Selector: selector(service),
		},
	}
	built.Labels[headlessLabel] = "true"
	for _, port := range service.Spec.Ports {
		built.Spec.Ports = append(built.Spec.Ports, servicePort(port, port.ContainerPort))
	}
	return built
}

func buildDeployment(service *ResilientService) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metadata(service, service.Name),
		Spec: appsv1.DeploymentSpec{
			Replicas:                ptr.To(service.Spec.replicas()),
			Selector:                &metav1.LabelSelector{MatchLabels: selector(service)},
			RevisionHistoryLimit:    ptr.To[int32](5),
			ProgressDeadlineSeconds: ptr.To[int32](progressDeadline),
			Strategy: appsv1.DeploymentStrategy{
				Type: appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{
					MaxUnavailable: ptr.To(intstr.FromInt32(0)),
					MaxSurge:       ptr.To(intstr.FromInt32(1)),
				},
			},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels(service)},
				Spec:       buildPod(service),
			},
		},
	}
}

func buildPod(service *ResilientService) corev1.PodSpec {
	spread := func(key string) corev1.TopologySpreadConstraint {
		return corev1.TopologySpreadConstraint{
			MaxSkew:           1,
			TopologyKey:       key,
			WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector:     &metav1.LabelSelector{MatchLabels: selector(service)},
			MatchLabelKeys:    []string{"pod-template-hash"},
		}
	}
	volume := func(name string, source corev1.VolumeSource) corev1.Volume {
		return corev1.Volume{Name: name, VolumeSource: source}
	}
	empty := corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}
	policy := corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: service.Name + "-policy"},
	}}
	return corev1.PodSpec{
		ServiceAccountName:            service.Name,
		AutomountServiceAccountToken:  ptr.To(false),
		EnableServiceLinks:            ptr.To(false),
		TerminationGracePeriodSeconds: ptr.To(service.Spec.TerminationGracePeriodSeconds),
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot:   ptr.To(true),
			RunAsUser:      ptr.To[int64](user),
			RunAsGroup:     ptr.To[int64](user),
			FSGroup:        ptr.To[int64](user),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		TopologySpreadConstraints: []corev1.TopologySpreadConstraint{
			spread("topology.kubernetes.io/zone"), spread("kubernetes.io/hostname"),
		},
		Volumes:    []corev1.Volume{volume("policy", policy), volume("state", empty), volume("tmp", empty)},
		Containers: []corev1.Container{buildContainer(service)},
	}
}

func buildContainer(service *ResilientService) corev1.Container {
	container := corev1.Container{
		Name:  service.Name,
		Image: service.Spec.Image,
		Env: []corev1.EnvVar{
			{Name: "VALERIX_SERVICE", Value: service.Name},
			{Name: "VALERIX_NAMESPACE", Value: service.Namespace},
			{Name: "VALERIX_POD_UID", ValueFrom: &corev1.EnvVarSource{
				FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.uid"},
			}},
			{Name: "VALERIX_POLICY_DIR", Value: "/etc/valerix/policy"},
			{Name: "VALERIX_STATE_DIR", Value: "/var/lib/valerix"},
		},
		Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: preStop}}},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr.To(false),
			ReadOnlyRootFilesystem:   ptr.To(true),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
		VolumeMounts: []corev1.VolumeMount{
			{Name: "policy", MountPath: "/etc/valerix/policy", ReadOnly: true},
			{Name: "state", MountPath: "/var/lib/valerix"},
			{Name: "tmp", MountPath: "/tmp"},
		},
	}
	for _, port := range service.Spec.Ports {
		container.Ports = append(container.Ports, corev1.ContainerPort{
			Name: port.Name, ContainerPort: port.ContainerPort, Protocol: corev1.ProtocolTCP,
		})
	}
	return container
}

// stands says whether a live child has everything that is desired; what the API server filled in does not matter.
func stands(desired, live client.Object) bool {
	has := equality.Semantic.DeepDerivative
	if !has(desired.GetLabels(), live.GetLabels()) {
		return false
	}
	switch desired := desired.(type) {
	case *corev1.ServiceAccount:
		return has(desired.AutomountServiceAccountToken, live.(*corev1.ServiceAccount).AutomountServiceAccountToken)
	case *corev1.ConfigMap:
		return has(desired.Data, live.(*corev1.ConfigMap).Data)
	case *corev1.Service:
		return has(desired.Spec, live.(*corev1.Service).Spec)
	case *appsv1.Deployment:
		return has(desired.Spec, live.(*appsv1.Deployment).Spec)
	}
	return false
}

// put makes a copy of a live child what is desired.
func put(desired, changed client.Object) {
	changed.SetLabels(desired.GetLabels())
	switch desired := desired.(type) {
	case *corev1.ServiceAccount:
		changed.(*corev1.ServiceAccount).AutomountServiceAccountToken = desired.AutomountServiceAccountToken
	case *corev1.ConfigMap:
		changed.(*corev1.ConfigMap).Data = desired.Data
	case *corev1.Service:
		desired.Spec.ClusterIP = changed.(*corev1.Service).Spec.ClusterIP
		changed.(*corev1.Service).Spec = desired.Spec
	case *appsv1.Deployment:
		changed.(*appsv1.Deployment).Spec = desired.Spec
	}
}
