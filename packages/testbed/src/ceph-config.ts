/**
 * Owns the configuration of a Ceph cluster that is as small, as quiet and as quick to start as it can be. Does not own its
 * processes (ceph.ts).
 */
import { join } from 'node:path'

export const cephHost = '127.0.0.1'
export const cephHostStyleDomain = 's3.stillpoint.test'
/** Of each storage daemon's sparse file. */
const blockBytes = 8 * 2 ** 30

export interface CephLayout {
  readonly folder: string
  readonly clusterId: string
  readonly monitorPort: number
  readonly port: number
  readonly storageDaemons: number
}

/** The text of ceph.conf. */
export function cephConfig({ folder, clusterId, monitorPort, port, storageDaemons }: CephLayout): string {
  return [
    '[global]',
    `fsid = ${clusterId}`,
    `mon_host = [v2:${cephHost}:${monitorPort}/0]`,
    'ms_bind_msgr1 = false',
    `public_addr = ${cephHost}`,
    `cluster_addr = ${cephHost}`,
    ...['cluster', 'service', 'client'].map((part) => `auth_${part}_required = none`),
    // What the gateway wants else cannot be had without authentication.
    'ms_mon_client_mode = crc',
    `run_dir = ${folder}`,
    `crash_dir = ${folder}`,
    // Empty: not there. Else they would be looked for in directories of the machine's own.
    ...['admin_socket', 'pid_file', 'log_file', 'heartbeat_file'].map((name) => `${name} =`),
    'log_to_file = false',
    'log_to_stderr = true',
    'mon_cluster_log_to_file = false',
    ...['mon', 'paxos', 'rocksdb', 'bluestore', 'bluefs', 'bdev', 'ms'].map((part) => `debug_${part} = 0`),
    'debug_osd = 1', // says when it is there
    `osd_pool_default_size = ${Math.min(2, storageDaemons)}`,
    'osd_pool_default_min_size = 1',
    'osd_pool_default_pg_num = 1',
    'osd_pool_default_pgp_num = 1',
    'osd_pool_default_pg_autoscale_mode = off',
    'osd_crush_chooseleaf_type = 0', // copies on different daemons, not on different machines
    'mon_allow_pool_size_one = true',
    'rgw_rados_pool_pg_num_min = 1',
    '[mon.a]',
    `mon_data = ${join(folder, 'mon')}`,
    // A machine of many tests may have little room left: that is not what is tested.
    'mon_data_avail_crit = 1',
    // One monitor has nobody to wait for.
    'paxos_propose_interval = 0.02',
    'paxos_min_wait = 0.01',
    'mon_tick_interval = 1',
    'mon_osd_min_down_reporters = 1',
    'mon_osd_reporter_subtree_level = osd',
    '[osd]',
    `osd_data = ${join(folder, 'osd$id')}`,
    'osd_objectstore = bluestore',
    `bluestore_block_size = ${blockBytes}`,
    'bluestore_cache_autotune = false',
    'bluestore_cache_size = 67108864',
    'osd_heartbeat_interval = 1',
    'osd_heartbeat_grace = 10',
    // What waits for an answer of a gateway that was killed waits no longer than this.
    'osd_client_watch_timeout = 3',
    '[client.rgw]',
    'auth_client_required = none',
    `rgw_frontends = beast endpoint=${cephHost}:${port}`,
    `rgw_dns_name = ${cephHostStyleDomain}`,
    `rgw_data = ${join(folder, 'gateway')}`,
    '',
  ].join('\n')
}
