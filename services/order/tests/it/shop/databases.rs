//! What a Postgres may do to the services.

use serde_json::json;
use sqlx::AssertSqlSafe;

use super::{SERVICES, Shop};

impl Shop {
    /// Closes every connection to a service's database and lets nobody in, as a restart of Postgres does.
    pub async fn shut_database(&self, service: &str) {
        let database = &self.parts[service].database;
        let name = database.name();
        database
            .admin(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
            .await;
        self.cut_database(service).await;
    }

    /// Closes every connection to a service's database.
    pub async fn cut_database(&self, service: &str) {
        let database = &self.parts[service].database;
        let sessions = format!("FROM pg_stat_activity WHERE datname = '{}'", database.name());
        database
            .admin(&format!("SELECT pg_terminate_backend(pid) {sessions}"))
            .await;
    }

    /// Undoes [`Self::shut_database`].
    pub async fn open_database(&self, service: &str) {
        let database = &self.parts[service].database;
        database
            .admin(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", database.name()))
            .await;
    }

    /// All databases at once.
    pub async fn restart_postgres(&self) {
        for service in SERVICES {
            self.shut_database(service).await;
        }
        self.until("order notices", || async {
            let order = json!({"item_id": "switch", "quantity": 1});
            let answer = self.try_place("nobody-home", &order).await;
            answer.is_ok_and(|answer| answer.status == 503).then_some(())
        })
        .await;
        for service in SERVICES {
            self.open_database(service).await;
        }
    }

    /// Lets [`Self::refuse_commits`] refuse whoever writes to one of `tables`.
    pub async fn guard_tables(&self, service: &str, tables: &[&str]) {
        self.refuse_commits(service, 0).await;
        for table in tables {
            let trigger = format!(
                "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON {table} DEFERRABLE INITIALLY DEFERRED \
                 FOR EACH ROW EXECUTE FUNCTION refuse()"
            );
            self.define(service, &trigger).await;
        }
    }

    /// From now on so many rows of a hundred make the transaction that wrote them end as if it had lost against another one.
    pub async fn refuse_commits(&self, service: &str, percent: u8) {
        let function = format!(
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF random() * 100 < {percent} THEN \
             RAISE EXCEPTION 'refused by the test' USING ERRCODE = 'serialization_failure'; END IF; RETURN NULL; END $$"
        );
        self.define(service, &function).await;
    }

    async fn define(&self, service: &str, statements: &str) {
        let pool = self.pool(service).await;
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
            .execute(&pool)
            .await
            .unwrap();
    }
}
