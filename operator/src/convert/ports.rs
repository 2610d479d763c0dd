//! The ports of the container, and what a Service offers them as. Pure.

use super::{Notes, document::Fields};
use serde_json::{Value, json};

/// Ports of the container, with what a Service offers them as.
#[derive(Default)]
pub struct Ports(Vec<Port>);

pub struct Port {
    pub name: Option<String>,
    pub number: i64,
    /// Port of the Service, once one leads here.
    pub offered: Option<i64>,
}

impl Ports {
    /// The port of this name or number.
    pub fn find(&mut self, reference: &Value) -> Option<&mut Port> {
        let number = reference.as_i64().or_else(|| reference.as_str()?.parse().ok());
        self.0.iter_mut().find(|port| match number {
            Some(number) => port.number == number,
            None => port.name.as_deref() == reference.as_str() && reference.is_string(),
        })
    }

    /// The same; one that the container does not list, which Kubernetes does not ask for, is added.
    pub fn find_or_add(&mut self, reference: &Value) -> Option<&mut Port> {
        if let Some(number) = reference.as_i64().filter(|_| self.find(reference).is_none()) {
            self.0.push(Port {
                name: None,
                number,
                offered: None,
            });
        }
        self.find(reference)
    }

    pub fn is_first(&self, name: &str) -> bool {
        self.0.first().is_some_and(|port| port.called() == name)
    }

    pub fn into_value(self) -> Value {
        let ports = self.0.into_iter().map(|port| {
            let mut value = json!({"name": port.called(), "containerPort": port.number});
            if let Some(offered) = port.offered.filter(|offered| *offered != port.number) {
                value["servicePort"] = json!(offered);
            }
            value
        });
        ports.collect()
    }
}

impl Port {
    /// Its name, which every port of a ResilientService has.
    pub fn called(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("port-{}", self.number))
    }
}

pub fn ports(own: &mut Fields, notes: &mut Notes) -> Ports {
    let listed = own.take("ports").unwrap_or_default();
    let mut ports = Ports::default();
    for port in listed.as_array().into_iter().flatten() {
        let Some(number) = port["containerPort"].as_i64() else {
            continue;
        };
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        if protocol != "TCP" {
            notes.warn(&format!(
                "port {number} is left out: {protocol} has no field, only TCP has"
            ));
            continue;
        }
        if port.get("hostPort").is_some() {
            notes.warn(&format!(
                "hostPort of port {number} is left out; use a Service of type NodePort or LoadBalancer"
            ));
        }
        ports.0.push(Port {
            name: port["name"].as_str().map(str::to_owned),
            number,
            offered: None,
        });
    }
    ports
}
