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

    /// Every moment that the services wrote down lies so many seconds further back: what they see when the clock of Postgres
    /// jumps ahead, or back where it is negative. What was said and heard keeps its time, as nothing is decided by it.
    pub async fn clock_jumps(&self, seconds: i32) {
        for service in SERVICES {
            let pool = self.pool(service).await;
            let columns: Vec<(String, String)> = sqlx::query_as(
                "SELECT table_name::text, string_agg(format('%1$I = %1$I - make_interval(secs => %2$s)', column_name, $1), ', ')
                 FROM information_schema.columns
                 WHERE table_schema = 'public' AND data_type = 'timestamp with time zone'
                   AND table_name NOT IN ('outbox', 'inbox', '_sqlx_migrations')
                 GROUP BY table_name",
            )
            .bind(seconds)
            .fetch_all(&pool)
            .await
            .unwrap();
            for (table, moments) in columns {
                // Locked as a whole, so that nobody who holds one of its rows can be waited for while another is held.
                let statements =
                    format!("BEGIN; LOCK TABLE {table} IN EXCLUSIVE MODE; UPDATE {table} SET {moments}; COMMIT");
                sqlx::raw_sql(AssertSqlSafe(statements)).execute(&pool).await.unwrap();
            }
        }
    }

    async fn define(&self, service: &str, statements: &str) {
        let pool = self.pool(service).await;
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
            .execute(&pool)
            .await
            .unwrap();
    }
}
